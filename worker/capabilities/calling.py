"""How a database declares functions that call a service of AWS, on Aurora; what it forbids them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calling:
    """What the generator of such functions must know besides the text of its statements.

    Attributes:
        product: what Aurora calls itself there.
        composites: whether one call may answer several outputs, as a composite type.
        most_inputs: inputs that are passed as arguments of their own; more go as one array. None: all.
        takes_batch_size: whether the function passes on how many rows go in one call; else that is part of it.
        aliases: whether the function stands for the service's itself, and has no body.
        built_in_sentiment: Comprehend's function, where it is one of the server's own; empty where it is not.
        role_by_parameter: whether a parameter of the cluster names the role by which it calls a service.
        forbidden_in: where Aurora forbids calls of such functions, in words; empty where nowhere.
        charset: of the texts that services answer, which a column of another one would cut; empty where none would.
        returnable: what such a function may return, in words.
        missing: what to do on a server that has no such services.
        outdated: what to do on one that has some of them, and not this one.
    """

    product: str
    composites: bool
    most_inputs: int | None
    takes_batch_size: bool
    aliases: bool
    built_in_sentiment: str
    role_by_parameter: bool
    forbidden_in: str
    charset: str
    returnable: str
    missing: str
    outdated: str
