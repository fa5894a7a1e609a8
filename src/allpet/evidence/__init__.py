"""All tables of the project from one command, in pieces that resume: ``allpet evaluate all``.

``sizes`` says how much, each other module what a table consists of, ``headlines`` which figures are watched.
"""
