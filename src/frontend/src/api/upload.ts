import type { ContextRef } from "@/generated/events";
import { ApiError, BASE } from "./client";
import type { ErrorBody } from "./types";

export interface UploadPart {
  file: Blob;
  /** Path inside the folder for a tree; the file's name for a single file. */
  path: string;
}

function parse(xhr: XMLHttpRequest): ContextRef {
  const body = JSON.parse(xhr.responseText) as ContextRef & { error?: ErrorBody };
  if (xhr.status >= 300 || !body.sha256) {
    throw new ApiError(
      xhr.status,
      body.error ?? { code: "upload", message: `The server answered ${xhr.status}.` },
    );
  }
  return body;
}

/** Upload of one context. XMLHttpRequest, because fetch still tells nothing about the progress of an upload. */
export function uploadContext(
  name: string,
  parts: UploadPart[],
  onProgress: (fraction: number) => void,
  signal: AbortSignal,
): Promise<ContextRef> {
  const form = new FormData();
  form.append("name", name);
  for (const part of parts) form.append("file", part.file, part.path);
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", `${BASE}/contexts`);
    xhr.upload.onprogress = (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    };
    xhr.onload = () => {
      try {
        resolve(parse(xhr));
      } catch (error) {
        reject(
          error instanceof ApiError
            ? error
            : new ApiError(xhr.status, { code: "upload", message: "The upload failed." }),
        );
      }
    };
    xhr.onerror = () =>
      reject(
        new ApiError(0, {
          code: "unreachable",
          message: "The upload broke off.",
          hint: "Is the server still running?",
        }),
      );
    xhr.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.addEventListener("abort", () => xhr.abort());
    xhr.send(form);
  });
}
