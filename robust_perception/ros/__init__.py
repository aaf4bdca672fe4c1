"""The nodes and what they need of ROS 2; the only room that imports rclpy."""
