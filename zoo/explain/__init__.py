"""What a network looks at, and what its parts answer to: arrays and numbers, nothing is drawn here.

places       where a chain is divided so that its output still has places in the picture
saliency     Grad-CAM: which places speak for a class
"""
