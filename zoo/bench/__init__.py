"""The verb `bench`: how fast a network runs here, engine by engine, and what holds a job up."""
