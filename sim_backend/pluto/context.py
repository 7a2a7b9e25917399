"""The context as XML, as libiio's clients read it."""

from __future__ import annotations

from xml.sax.saxutils import quoteattr

from sim_backend.pluto.attributes import Channel, Device

__all__ = ["context_xml"]

_GRAMMAR = (
    "<!DOCTYPE context ["
    "<!ELEMENT context (device | context-attribute)*>"
    "<!ELEMENT context-attribute EMPTY>"
    "<!ELEMENT device (channel | attribute | debug-attribute | buffer-attribute)*>"
    "<!ELEMENT channel (scan-element?, attribute*)>"
    "<!ELEMENT attribute EMPTY>"
    "<!ELEMENT scan-element EMPTY>"
    "<!ELEMENT debug-attribute EMPTY>"
    "<!ELEMENT buffer-attribute EMPTY>"
    "<!ATTLIST context name CDATA #REQUIRED description CDATA #IMPLIED>"
    "<!ATTLIST context-attribute name CDATA #REQUIRED value CDATA #REQUIRED>"
    "<!ATTLIST device id CDATA #REQUIRED name CDATA #IMPLIED>"
    "<!ATTLIST channel id CDATA #REQUIRED type (input|output) #REQUIRED name CDATA #IMPLIED>"
    "<!ATTLIST scan-element index CDATA #REQUIRED format CDATA #REQUIRED scale CDATA #IMPLIED>"
    "<!ATTLIST attribute name CDATA #REQUIRED filename CDATA #IMPLIED>"
    "<!ATTLIST debug-attribute name CDATA #REQUIRED>"
    "<!ATTLIST buffer-attribute name CDATA #REQUIRED>"
    "]>"
)


def _element(kind: str, **values: str) -> str:
    return f"<{kind} " + " ".join(f"{key}={quoteattr(value)}" for key, value in values.items()) + " />"


def _channel(channel: Channel) -> str:
    name = f" name={quoteattr(channel.name)}" if channel.name else ""
    text = f'<channel id={quoteattr(channel.id)}{name} type="{"output" if channel.output else "input"}" >'
    if channel.scan_index is not None:
        text += _element("scan-element", index=str(channel.scan_index), format=channel.scan_format)
    text += "".join(_element("attribute", name=a.name, filename=a.filename) for a in channel.attributes)
    return text + "</channel>"


def _device(device: Device) -> str:
    text = f"<device id={quoteattr(device.id)} name={quoteattr(device.name)} >"
    text += "".join(_channel(channel) for channel in device.channels)
    text += "".join(_element("attribute", name=a.name) for a in device.attributes)
    text += "".join(_element("buffer-attribute", name=a.name) for a in device.buffer)
    text += "".join(_element("debug-attribute", name=a.name) for a in device.debug)
    return text + "</device>"


def context_xml(devices: list[Device], attributes: dict[str, str], description: str) -> str:
    """XML of a context with ``devices`` and context ``attributes``."""
    text = f'<?xml version="1.0" encoding="utf-8"?>{_GRAMMAR}'
    text += f'<context name="local" description={quoteattr(description)} >'
    text += "".join(_element("context-attribute", name=name, value=value) for name, value in attributes.items())
    return text + "".join(_device(device) for device in devices) + "</context>"
