"""A function that runs code and that no list of known globals names."""


def run(code):
    exec(code, {})
