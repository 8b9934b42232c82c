"""See `check`: starts the local stack and a web site of two pages, and drives Chromium over them."""

import argparse
import http.server
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import boto3
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "debug"
PROGRAM = "page-demo"
# What a browser with the setting sends and shows.
PRIVACY_CONTROL = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {value: true})"


class Site(http.server.SimpleHTTPRequestHandler):
    """The pages, with the tracker's address filled in."""

    tracker = ""

    def do_GET(self):
        path = HERE / pathlib.Path(self.path.split("?")[0]).name
        if path.suffix not in (".html", ".css") or not path.exists():
            self.send_error(404)
            return
        body = path.read_text().replace("TRACKER", self.tracker).encode()
        self.send_response(200)
        self.send_header("Content-Type", f"text/{path.suffix[1:]}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def wait_for(what, condition, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"not within {seconds} s: {what}")


def start_stack(folder, origin):
    env_file = folder / "env"
    settings = {"CORS_ALLOWED_ORIGINS": origin, "COOKIE_MAX_AGE_DAYS": "30"}
    process = subprocess.Popen(
        [BINARIES / "local-stack", "--folder", folder / "stack", "--env-file", env_file,
         "--stop-with-parent"], env={**os.environ, **settings}, stdout=subprocess.DEVNULL)
    wait_for("the local stack", env_file.exists, 60)
    exports = re.findall(r"export (\w+)='?([^'\n]*)'?", wait_for("its settings", env_file.read_text))
    return process, dict(exports)


def publish(environment, landing):
    program = {"programId": PROGRAM, "programName": "Pens", "checksum": "1", "customerId": 1,
               "customerName": "Pens & Co", "valid": True, "landingUrl": landing}
    subprocess.run([BINARIES / "core-data", "publish", "-"], input=json.dumps(program) + "\n",
                   text=True, env={**os.environ, **environment}, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Browser:
    def __init__(self, folder, objects):
        options = webdriver.ChromeOptions()
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900",
                     f"--user-data-dir={folder}"):
            options.add_argument(flag)
        # Named, so that Selenium does not ask the network for one.
        options.binary_location = shutil.which("chromium")
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        if objects:
            self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument",
                                        {"source": PRIVACY_CONTROL})
            self.driver.execute_cdp_cmd("Network.enable", {})
            self.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders",
                                        {"headers": {"Sec-GPC": "1"}})

    def visit(self, site, picture=None):
        """Sees the ad, clicks it, and buys."""
        driver = self.driver
        driver.get(f"{site}/ad.html")
        ad = driver.find_element(By.ID, "ad")
        WebDriverWait(driver, 20).until(lambda _: ad.get_attribute("data-impression-id"))
        if picture:
            driver.save_screenshot(str(picture))
        driver.find_element(By.ID, "button").click()
        link = driver.find_element(By.ID, "link")
        assert "impression_id=" in link.get_attribute("href"), link.get_attribute("href")
        below = driver.find_element(By.ID, "below").get_attribute("data-impression-id")
        assert not below, "an ad that was never in view is no impression"
        link.click()
        WebDriverWait(driver, 20).until(lambda _: "click_id=" in driver.current_url)
        assert "landing.html" in driver.current_url, driver.current_url
        WebDriverWait(driver, 20).until(lambda _: driver.execute_script("return !!window.adtrack"))
        return driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            f"adtrack.conversion('{PROGRAM}', {{transactionId: 'order-' + Date.now(),"
            " eventName: 'sale', amount: '19.90', currency: 'EUR'}).then(done)")

    def cookies(self):
        found = self.driver.execute_cdp_cmd("Network.getAllCookies", {})["cookies"]
        return [cookie for cookie in found if cookie["name"] == "adtrack_id"]

    def console(self):
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] == "SEVERE" and "favicon" not in entry["message"]]


def rows_of(environment, since):
    client = boto3.client("dynamodb", endpoint_url=environment["AWS_ENDPOINT_URL_DYNAMODB"],
                          region_name=environment["AWS_REGION"], aws_access_key_id="local",
                          aws_secret_access_key="local")
    found = client.scan(TableName=environment["TABLE_NAME"])["Items"]
    rows = [{name: next(iter(value.values())) for name, value in item.items()} for item in found]
    return [row for row in rows if int(row["received_at"]) >= since and row["program_id"] == PROGRAM]


def one(rows, event_type, having="message_id"):
    matching = [row for row in rows if row["event_type"] == event_type and having in row]
    assert len(matching) == 1, f"{len(matching)} rows of {event_type} with {having}: {rows}"
    return matching[0]


def visit(environment, site, folder, objects, picture=None):
    """The rows and cookies of a visit."""
    since = int(time.time() * 1000)
    browser = Browser(folder, objects)
    try:
        text = browser.visit(site, picture)
        assert "messageId" in text, text
        # The ad, the pixel, both clicks and the conversion.
        wait_for("five rows", lambda: len(rows_of(environment, since)) >= 5)
        time.sleep(1)
        rows, cookies, problems = rows_of(environment, since), browser.cookies(), browser.console()
    finally:
        browser.driver.quit()
    assert not problems, problems
    assert len(rows) == 5, rows
    return rows, cookies


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=pathlib.Path, help="where a picture of the page goes")
    arguments = parser.parse_args()
    site_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    site = f"http://localhost:{site_server.server_port}"
    threading.Thread(target=site_server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="adtrack-page-", ignore_cleanup_errors=True) as name:
        folder = pathlib.Path(name)
        stack, environment = start_stack(folder, site)
        try:
            # Of one site with the page, as a tracker on a host of the advertiser's own is.
            Site.tracker = environment["TRACKER_URL"].replace("127.0.0.1", "localhost")
            publish(environment, f"{site}/landing.html")
            known = f"{Site.tracker}/event/{PROGRAM}"
            wait_for("the program", lambda: subprocess.run(
                ["curl", "-sfI", "-o", "/dev/null", known]).returncode == 0)
            follow(environment, site, folder, arguments.picture)
        finally:
            stack.terminate()
            stack.wait(40)


def follow(environment, site, folder, picture):
    print("a visitor")
    rows, cookies = visit(environment, site, folder / "visitor", False, picture)
    impression = one(rows, "impression", "client_event_id")
    click = one(rows, "click", "parameters")
    conversion = one(rows, "conversion")
    assert click["impression_id"] == impression["message_id"], (click, impression)
    assert conversion["click_id"] == click["message_id"], (conversion, click)
    assert conversion["amount_micros"] == "19900000" and conversion["currency"] == "EUR", conversion
    assert len({row["visitor_id"] for row in rows}) == 1, rows
    assert [cookie["value"] for cookie in cookies] == [rows[0]["visitor_id"]], cookies
    assert cookies[0]["httpOnly"] and cookies[0]["secure"], cookies
    print(f"  impression, click, conversion of {rows[0]['visitor_id']}, each with the one before")

    print("a visitor with Global Privacy Control")
    rows, cookies = visit(environment, site, folder / "objector", True)
    assert not cookies, cookies
    assert not any("visitor_id" in row or "parameters" in row for row in rows), rows
    assert one(rows, "conversion")["click_id"] in {row["message_id"] for row in rows}, rows
    print("  as many rows; no cookie, no visitor id, no parameters")


if __name__ == "__main__":
    main()
