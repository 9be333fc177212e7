/** Verifies beside the page: a file may be large, and whoever wrote it may be nobody's friend. */
"use strict";

import { verify } from "./verify.mjs";

addEventListener("message", ({ data }) => postMessage(verify(new Uint8Array(data))));
