"""What cooperation buys at network level: localization and communication of many stations, closed forms and draws."""
