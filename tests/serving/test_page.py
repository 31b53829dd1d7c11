"""The page, in headless Chromium where there is one."""

import fcntl
import itertools
import json
import os
import select
import signal
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
]
SECONDS = 60  # nothing here takes so long, unless it would take for ever


class Chromium:
    """A browser that is told what to do over two pipes, in the words of the Chrome DevTools protocol."""

    def __init__(self, program: str, folder: Path):
        (command, self.commands), (self.answers, answer) = os.pipe(), os.pipe()
        # It reads from descriptor 3 and writes to 4. Copies far above these, so that neither is overwritten too early.
        above = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (command, answer)]
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(above, start=3)]
        actions += [(os.POSIX_SPAWN_OPEN, 2, str(folder / "log"), os.O_WRONLY | os.O_CREAT, 0o600)]
        arguments = [program, f"--user-data-dir={folder}", *FLAGS]
        self.process = os.posix_spawn(program, arguments, os.environ, file_actions=actions, setpgroup=0)
        for end in (command, answer, *above):
            os.close(end)
        self.numbers, self.rest, self.events = itertools.count(), b"", list[dict[str, Any]]()

    def ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        number = next(self.numbers)
        command = {"id": number, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while (message := self.read()).get("id") != number:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def read(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self.rest:
            assert select.select([self.answers], [], [], SECONDS)[0], "the browser does not answer"
            read = os.read(self.answers, 1 << 16)
            assert read, "the browser has ended"
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        return json.loads(message)

    def close(self) -> None:
        os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.commands)
        os.close(self.answers)


class Tab:
    """A page of its own, which shares nothing with others."""

    def __init__(self, browser: Chromium, width: int = 1200, height: int = 900, **media: str):
        self.browser = browser
        context = browser.ask("Target.createBrowserContext")["browserContextId"]
        self.target = browser.ask("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self.session = browser.ask("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.ask("Emulation.setEmulatedMedia", features=features)
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.ask("Network.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **parameters)

    def open(self, url: str) -> None:
        """Opens a page, and waits until it has heard from its service."""
        self.ask("Page.navigate", url=url)
        self.wait("find('models').children.length || find('error').textContent || !find('token-form').hidden")

    def run(self, script: str) -> Any:
        """What an expression gives; a promise's value where it gives one."""
        found = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until this expression holds on the page."""
        everything = "{subtree: true, childList: true, attributes: true, characterData: true}"
        self.run(
            "new Promise((done) => { const find = (id) => document.getElementById(id);"
            f"const look = () => {{ if (document.readyState === 'complete' && ({condition})) done(); }};"
            f"new MutationObserver(look).observe(document, {everything}); addEventListener('load', look); look(); }})"
        )

    def press(self, key: str, modifiers: int = 0) -> None:
        codes = {"Enter": 13, "Tab": 9, " ": 32}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": modifiers}
        text = {"text": "\r" if key == "Enter" else key} if key != "Tab" and not modifiers else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        """Puts text where the focus is, as pasting does."""
        self.ask("Input.insertText", text=text)

    def shoot(self, path: Path) -> None:
        import base64

        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))
