"""What every notebook imports: the ConceptCLIP family and the small functions around it.

`import helpers` registers the family with transformers' Auto classes. Every other name is loaded when it is first used,
so that a script which only loads a model imports neither scikit-learn nor matplotlib. The names stand in
`__init__.pyi`, where editors and type checkers see them; what is used rarely is reached through its module, such as
`helpers.metrics.fit_temperature`. Where the family cannot be imported (a package is missing or broken), the first use
of a name says so.
"""

import lazy_loader

_broken = None
try:
    import helpers.conceptclip  # noqa: F401 (registers the classes with transformers' Auto classes)
except Exception as error:  # kept for the first use of a name: `helpers.doctor`, which knows the cure, must start
    _broken = error

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str):
    if _broken is not None and name in __all__:
        raise ImportError(
            f"helpers cannot work here ({type(_broken).__name__}: {_broken}). Run `python -m helpers.doctor` in a "
            "terminal: it says what is missing and what to do."
        ) from _broken
    return _load(name)
