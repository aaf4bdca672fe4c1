"""One model on many bags: in this process or on Ray, bag by bag, joined into one report."""
