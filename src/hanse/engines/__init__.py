"""The database engines that store and execute."""
