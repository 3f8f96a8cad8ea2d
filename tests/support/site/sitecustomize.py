"""Python runs this at the start of every process that the tests begin."""

import port_guard

port_guard.install()
