"""The smallest whole worker with the Python SDK, for the load test."""

from tempest_worker import App

app = App()


@app.handler
def hello(request):
    return f"hello from python, {request.method} {request.path}\n"
