"""Other people's gateways and clients, beside which ours is measured and with which it is used.

Each is installed once, into an environment of its own in the user's cache, in exactly the versions and with
the hashes that the lock files here name; no dependency of them touches ours. A lock is made by

    echo 'litellm[proxy]==1.109.1' | uv pip compile - --generate-hashes --universal --python-version 3.11
"""
