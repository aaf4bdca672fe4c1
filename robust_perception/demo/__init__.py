"""The demo: the graph as separate processes, every sensor lost and regained, every promise measured."""
