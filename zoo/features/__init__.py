"""The frozen part of a network applied to views of photos, once, and kept on disk."""
