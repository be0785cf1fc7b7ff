"""Screenshots of a report and of the demo's page for the docs, in headless Chromium.

datafree demo --out runs/demo
python benchmarks/report_pictures.py runs/demo docs/pictures
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

SHOTS = {
    "report-light": ("adi/report.html", 1040, 940, "light", 0),
    "report-pictures-dark": ("adi/report.html", 1040, 700, "dark", 1050),
    "report-phone-dark": ("adi/report.html", 390, 844, "dark", 0),
    "report-phone-light": ("adi/report.html", 390, 844, "light", 1500),
    "demo-light": ("report.html", 1040, 760, "light", 0),
    "demo-dark": ("report.html", 1040, 760, "dark", 0),
}
"""picture: the page in the demo's folder, width, height and colour scheme of the window, and how far it is scrolled"""


def main(demo: Path, out: Path) -> None:
    """Write each picture with a palette of 128 colours, which keeps it small."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (page, width, height, scheme, scrolled) in SHOTS.items():
            tab = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            tab.goto((demo / page).resolve().as_uri())
            tab.evaluate(f"scrollTo(0, {scrolled})")
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            picture.quantize(128, Image.Quantize.MAXCOVERAGE).save(out / f"{name}.png", optimize=True)
            tab.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
