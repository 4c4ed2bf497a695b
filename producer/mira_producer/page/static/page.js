// What every view needs.
import { followLive } from "./live.js";
import { confirmForms, fillTokens } from "./forms.js";
import { showTheme } from "./theme_button.js";
import { showTimes } from "./times.js";

showTheme();
showTimes();
fillTokens(document);
confirmForms();
followLive();
