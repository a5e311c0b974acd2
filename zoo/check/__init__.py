"""What is wrong with a folder of photos, before or after a network has learned from it.

records    a finding, and all of them            look       the pass over the photos
files      unreadable, odd, shapes, colours      near       pictures that are the same
copies     duplicates, leaks, groups             labels     names, balance, wrong labels, overlap
features   of a network, kept or computed        drift      new photos against known ones
job        all of it, in the order of the story
"""
