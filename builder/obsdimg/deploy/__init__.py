"""From an ISO on this machine to a server that answers: upload, instance, proof, cleaning up.

provider.py says what a provider must be able to do; vultr.py is the one that can.  steps.py is
the order of things, state.py what is remembered between two runs.
"""
