"""Experiments behind the claims: ``python -m allpet.study {arms,masks,synthetic}``."""
