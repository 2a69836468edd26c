"""A real JupyterLab and a headless Chromium that looks at it, for tests of what lives in a browser."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

TOKEN = "a-token-for-this-test-only"
WITHOUT = (
    "needs Chromium, its driver and selenium: `apt install chromium chromium-driver`, `pip install -e '.[browser]'`"
)


def there() -> bool:
    """Is there what the tests drive?"""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return False
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


@contextlib.contextmanager
def jupyterlab(folder: Path, log: Path, **environment: str) -> Iterator[str]:
    """Start JupyterLab in a folder; gives its address, and ends it with all its kernels."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = log.parent / "jupyter"
    notification = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    notification.parent.mkdir(parents=True, exist_ok=True)
    notification.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    places = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}  # a person's own settings stay out of it
    environment |= {f"JUPYTER_{key}_DIR": str(home / place) for key, place in places.items()}
    environment |= {f"JUPYTERLAB_{key.upper()}_DIR": str(home / key) for key in ("settings", "workspaces")}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1", f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}",
        "--allow-root", "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    from selenium.webdriver.support.ui import WebDriverWait

    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment)
        address = f"http://127.0.0.1:{port}"
        try:
            WebDriverWait(server, 240, poll_frequency=0.25).until(
                lambda _: server.poll() is not None or answers(address)
            )
            if server.poll() is not None:
                raise RuntimeError(f"JupyterLab ended at once:\n{log.read_text(errors='replace')[-2000:]}")
            yield address
        finally:
            server.terminate()  # it shuts its kernels down
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def answers(address: str) -> bool:
    """Is a JupyterLab there, and does it take our token?"""
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=2) as answer,
    ):
        return answer.status == 200
    return False


@contextlib.contextmanager
def chromium(profile: Path, *, width: int = 1500, height: int = 1100) -> Iterator:
    """A headless Chromium, ended afterwards."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
        f"--window-size={width},{height}", "--force-prefers-reduced-motion",
    ):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.chrome.service.Service(shutil.which("chromedriver")))
    # JupyterLab's commands act on the widget that has the focus, and a page without a screen may never get it.
    driver.execute_cdp_cmd("Emulation.setFocusEmulationEnabled", {"enabled": True})
    try:
        yield driver
    finally:
        driver.quit()


def requests(driver) -> list[str]:
    """The addresses that the browser asked for since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return asked + [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]


def run_notebook(driver, address: str, name: str, *, seconds: float = 240) -> list[str]:
    """Open a notebook and run all its cells; returns the errors that cells ended in."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(f"{address}/lab/tree/{name}?token={TOKEN}&reset")
    driver.set_script_timeout(seconds)
    ready = "const it = window.jupyterapp?.shell.currentWidget; return !!(it?.context?.isReady && it.sessionContext)"
    WebDriverWait(driver, seconds).until(lambda page: page.execute_script(ready))
    return driver.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        (async () => {
          const app = window.jupyterapp;
          await app.restored;
          const panel = app.shell.currentWidget;
          await panel.sessionContext.ready;
          app.commands.execute("application:toggle-left-area").catch(() => {});
          await app.commands.execute("notebook:run-all-cells");
          const cells = [...panel.content.model.cells].filter((cell) => cell.type === "code");
          const errors = [];
          for (const cell of cells)
            for (const output of cell.sharedModel.outputs)
              if (output.output_type === "error") errors.push(`${output.ename}: ${output.evalue}`);
          done(errors);
        })().catch((error) => done([String(error)]));
        """
    )
