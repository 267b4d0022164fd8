"""Resolution of a name, a dict or an object to an object, as in Keras."""

import keras


def resolve(identifier, base, names, default, **defaults):
    """Resolves an identifier to an instance of `base`.

    Args:
        identifier: an instance of `base`; a name from `names`; a dict as
            `keras.saving.serialize_keras_object` returns it, or in its short
            form `{"class_name": NAME, "config": {...}}`; or `None`.
        base: the base class of the family.
        names: dict of short name to class.
        default: str, the name that `None` stands for.
        **defaults: constructor arguments for a class given by name, used
            only where the class takes them (`takes_defaults`).

    Returns:
        An instance of `base`.
    """
    kind = base.__name__
    if identifier is None:
        identifier = default
    if isinstance(identifier, base):
        return identifier
    if isinstance(identifier, str) and identifier in names:
        cls = names[identifier]
        arguments = {
            argument: defaults[key]
            for key, argument in getattr(cls, "takes_defaults", {}).items()
            if defaults.get(key) is not None
        }
        try:
            return cls(**arguments)
        except TypeError as error:
            raise ValueError(
                f"{kind} '{identifier}' cannot be made from its name alone: "
                f"it needs arguments. Pass an object, such as "
                f"`{cls.__name__}(...)`. ({error})"
            ) from None
    if isinstance(identifier, dict) and "class_name" in identifier:
        name = identifier["class_name"]
        if name in names and "registered_name" not in identifier:
            return names[name].from_config(dict(identifier.get("config", {})))
        resolved = keras.saving.deserialize_keras_object(identifier)
        if isinstance(resolved, base):
            return resolved
    raise ValueError(
        f"Not a known {kind}. Expected: one of {sorted(names)}, a dict with "
        f"'class_name' and 'config', or a {kind} object. "
        f"Received: {identifier!r}."
    )
