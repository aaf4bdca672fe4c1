"""The graph without ROS: messages to frames, and when an output is made; live nodes and bags run on it."""
