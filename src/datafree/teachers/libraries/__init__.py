"""Networks of other libraries than timm: torchvision and transformers."""
