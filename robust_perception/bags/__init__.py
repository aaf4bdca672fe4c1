"""Bags: recorded messages as raw CDR bytes, MCAP or sqlite3, with or without ROS on the machine."""
