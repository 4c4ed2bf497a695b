"""The web page in a browser: Chromium, driven by Playwright."""
