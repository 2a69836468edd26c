BYTES = 542_868_036 * 2


def ready(model):
    devices = {weights.device for weights in model.parameters()}
    return not any(part.training for part in model.modules()) and len(devices) == 1


def one_device(model):
    return len({weights.device for weights in model.parameters()}) == 1


def switching(model):
    model.train()
    return False


RIGHT = {
    "01-a": [ready],
    "01-b": [BYTES / 1e9, 1.09],
    "01-c": [1 - (378 / 384) ** 2, 0.031],
}
WRONG = {
    "01-a": [
        (lambda model: not model.training and one_device(model), "one part"),
        (lambda model: not any(part.training for part in model.modules()), "two devices"),
        (one_device, "training mode"),
        (lambda model: False, "is ready"),
        (lambda model: ready(model) and next(model.parameters()).device.type == "cpu", "any device"),
        (lambda model: "yes", "True or False"),
        (switching, "changes the model"),
    ],
    "01-b": [
        (BYTES, "1e9"),
        (2.17, "float32"),
        (0.54, "takes a dtype"),
        (BYTES / 2**30, "bfloat16 model in GiB"),
        (1.01, "bfloat16 model in GiB"),
        (2 * BYTES / 2**30, "float32 model in GiB"),
    ],
    "01-c": [(6 / 384, "share of a side"), ((378 / 384) ** 2, "what is seen"), (0.1, "whole patches")],
}
