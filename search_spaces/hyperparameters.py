"""The hyper-parameters that a space may set: the one list of their names, in the order in which spaces ask them."""

HYPERPARAMETERS: dict[str, str] = {
    "arch": "architecture: one of ours, or any timm name",
    "freeze": "which pretrained layers aren't trained: none, early, most, or all but the classifier (a probe)",
    "lr": "peak learning rate of AdamW",
    "backbone_lr": "factor on the learning rate of all layers but the classifier, 0..1; for pretrained weights",
    "weight_decay": "AdamW's decoupled weight decay (none on norms, biases and position embeddings)",
    "drop_rate": "dropout before the classifier, 0..1",
    "attn_drop_rate": "dropout on attention weights, 0..1; attention models only",
    "drop_path_rate": "stochastic depth at the last block, 0..1",
    "label_smoothing": "share of the target spread over all classes, 0..1",
    "mix_prob": "probability that a batch gets CutMix or MixUp at full augmentation strength, 0..1",
    "batch_size": "images a step",
    "layer_decay": "factor on the learning rate from each layer to the one below it, 0..1; for pretrained weights",
    "augment": "augmentation of single images: none, light or full",
    "warmup_epochs": "epochs of linear warm-up",
    "ema_decay": "decay of the moving average of the weights, a step",
    "clip_grad": "greatest norm of the gradient",
    "stem": "stem of a ResNet: small (3x3, no pooling) or full, as published, at a sixteenth of the arithmetic",
    "patch_size": "side of a patch of ViT and DeiT in pixels; a larger one is cheaper",
    "window_size": "side of Swin's attention windows in patches",
    "progressive_resize": "train on half the side first, then on three quarters, on the whole in the last quarter",
}
