"""Draw pictures/page.png: the page of three runs of the demo, in Chromium. Run by: nox -s picture."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

import rankzero
from rankzero.cli import demo_training

PICTURE = Path(__file__).with_name("page.png")
EPOCHS = 20


def train(name, learning_rate):
    demo_training.LEARNING_RATE = learning_rate
    with rankzero.start("csv", project="digits", name=name, tags=["demo"]) as run:
        for metric, goal in (("val/loss", "minimize"), ("val/accuracy", "maximize")):
            run.define_metric(metric, goal=goal)
        model = demo_training.make_classifier()
        demo_training.train(run, model, demo_training.load_digits(), EPOCHS, lambda loss, accuracy: None)


def main():
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        for name, learning_rate in {"slow-fox-1": 3e-4, "calm-owl-2": 1e-3, "amber-otter-3": 5e-3}.items():
            train(name, learning_rate)
        subprocess.run(["rankzero", "page", "rankzero-runs", "-o", "page.html"], check=True)
        with sync_playwright() as playwright:
            path = shutil.which("chromium") or shutil.which("google-chrome")
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(f"{Path('page.html').resolve().as_uri()}#smooth=0.6")
            page.locator(".chart canvas").nth(2).wait_for()
            page.locator(".u-over").first.hover(position={"x": 180, "y": 60})
            page.wait_for_timeout(200)
            page.screenshot(path=PICTURE)
            browser.close()


if __name__ == "__main__":
    main()
