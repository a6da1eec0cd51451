"""Takes what somebody says in a room and publishes it there. `python3 -m tempest_worker chat:app`"""

import time

from tempest_worker import App

app = App()


@app.post("/say/{room}")
def say(request):
    said = request.json()
    name = str(said.get("name") or request.session.get("name") or "").strip()[:40]
    text = str(said.get("text") or "").strip()[:1000]
    if not name or not text:
        return 422, {"error": "a name and a text are wanted"}
    request.session["name"] = name
    # Told with its id by every front, and once only, should the answer be lost and the page ask again.
    app.publish(f"chat.{request.params['room']}", {"name": name, "text": text, "at": int(time.time())}, key=said.get("key"))
    return {"name": name}
