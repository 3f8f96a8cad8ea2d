"""Everything over HTTP that is not inference: what the gateway is, has and does, for people, clients and monitors.

`app.build` puts it together; it is not imported here, since FastAPI takes half a second and calls need not wait for it.
"""
