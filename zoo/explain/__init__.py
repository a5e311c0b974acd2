"""What a network looks at, and what its parts answer to: arrays and numbers, nothing is drawn here.

places       where a chain is divided so that its output still has places in the picture
saliency     Grad-CAM: which places speak for a class
occlusion    which parts cannot be covered without losing the class
filters      kernels of the first layer, and the maps of a stage
receptive    how much of the picture one unit sees
matches      the patches of a folder that excite a unit most
dream        the picture that excites it most
"""
