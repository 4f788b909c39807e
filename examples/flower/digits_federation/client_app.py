"""What every node runs. `partition-id` of its configuration says which client it is."""

from autoflip_secure.flower import client_app
from digits_federation.task import federation

app = client_app(federation)
