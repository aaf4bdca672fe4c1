"""What can go wrong with a sensor, as scripts: when, to which sensor, how much; live and offline."""
