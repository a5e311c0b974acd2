"""The verb `bench`: what this machine makes of a network, and what it could make of it."""
