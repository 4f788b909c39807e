"""What a scenario file may say, as data that ships with the package, so that asking imports neither torch nor a class.

``make catalogue`` writes ``catalogue.json`` from the classes (:mod:`.derive`); a test fails until it is up to date.
"""
