"""fastai's vision_learner with a frozen body: its own head, its own transforms, fit_one_cycle.

The weights come from a file, so what `pretrained=True` would do is said here: normalise, freeze.
fastai trains the BatchNorm layers of a frozen body; for one trunk everywhere, that is switched off.
The rate is fine_tune's for its frozen part. lr_find would cost eight more epochs of these photos.
"""

from __future__ import annotations

from trunk import answer, arguments


def main() -> None:
    parser = arguments(__doc__, epochs=10)
    parser.add_argument("--lr", type=float, default=2e-3, help="(2e-3)")
    flags = parser.parse_args()

    import torch
    from fastai.callback.training import BnFreeze
    from fastai.vision.all import (
        ImageDataLoaders,
        Normalize,
        Resize,
        accuracy,
        aug_transforms,
        imagenet_stats,
        models,
        set_seed,
        vision_learner,
    )

    set_seed(flags.seed, reproducible=True)
    loaders = ImageDataLoaders.from_folder(
        flags.data,
        train="train",
        valid="val",
        bs=32,
        num_workers=2,
        item_tfms=Resize(224),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
        seed=flags.seed,
    )
    known = {"squeezenet1_1": models.squeezenet1_1}
    arch = known.get(flags.model, flags.model)
    options = {"pretrained": False, "normalize": False, "train_bn": False}
    learner = vision_learner(loaders, arch, metrics=accuracy, cbs=BnFreeze, **options)
    state = torch.load(flags.weights, map_location="cpu", weights_only=True)
    body = learner.model[0]
    if flags.model == "squeezenet1_1":
        names = {k.removeprefix("features."): v for k, v in state.items() if "features." in k}
        body[0].load_state_dict(names)
    else:
        body.model.load_state_dict(
            {k: v for k, v in state.items() if not k.startswith("classifier.")}
        )
    learner.freeze()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(flags.epochs, flags.lr)
    settings = {
        "epochs": flags.epochs,
        "lr": flags.lr,
        "batch": 32,
        "item_tfms": "Resize(224)",
        "batch_tfms": "aug_transforms()",
        "head": "fastai's: concat pool, BatchNorm, dropout, 512, BatchNorm, dropout",
        "workers": 2,
    }
    answer(flags, [float(row[-1]) for row in learner.recorder.values], settings, "fastai")


if __name__ == "__main__":
    main()
