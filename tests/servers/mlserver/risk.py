"""A model in the format of MLServer: a tensor of scores and one of labels, for a tensor of each input."""

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class Risk(MLModel):
    """What MLServer calls."""

    async def load(self):
        """There is nothing to load."""
        return True

    async def predict(self, payload):
        """The score is NaN where an amount is missing; a country of five letters is more than it can bear."""
        inputs = {item.name: item for item in payload.inputs}
        country = StringCodec.decode_input(inputs["country"])
        if any(len(name) == 5 for name in country):
            raise ValueError("a country has two letters")
        amount, items = (NumpyCodec.decode_input(inputs[name]) for name in ("amount", "items"))
        score = 1 / (1 + np.exp(items - amount.astype(float) / 100))
        label = [["high" if value > 0.5 else "low"] for value in score.ravel()]
        return InferenceResponse(
            model_name=self.name,
            id=payload.id,
            outputs=[
                NumpyCodec.encode_output("probability", score),
                StringCodec.encode_output("label", [value for (value,) in label]),
            ],
        )
