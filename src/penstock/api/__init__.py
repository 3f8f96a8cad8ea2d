"""The HTTP API beside inference: status, models, routing and pages, for people, clients and monitoring.

`app.build_app` builds it; it is not imported here, because FastAPI takes half a second and inference need not wait.
"""
