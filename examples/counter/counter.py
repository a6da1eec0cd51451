"""Counts the visits of a client in its session. `python3 -m tempest_worker counter:app`"""

from tempest_worker import App

app = App()


@app.get("/count")
def count(request):
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    session["by"] = {**session.get("by", {}), "python": session.get("by", {}).get("python", 0) + 1}
    return {"worker": "python", "session": session}


@app.post("/forget")
def forget(request):
    request.session.clear()
    return {"worker": "python", "session": {}}
