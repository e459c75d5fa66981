"Code of a network of one's own, as a test writes it into a file; it needs `from torch import nn`."

SMALL = """
class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(4, 10)
        self.pretrained_cfg = {"input_size": (3, 16, 16)}

    def forward(self, x):
        return self.head(self.body(x))
"""
