"""A Django application over the tables of `home.py`."""
