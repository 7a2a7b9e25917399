"""Pictures and the page by which a run is judged."""
