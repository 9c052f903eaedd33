import type { ErrorBody } from "./types";

export const BASE = "/api/v1";

/** A failed request, with what the server said about it: one line and what to do. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly body: ErrorBody,
  ) {
    super(body.message);
    this.name = "ApiError";
  }
  get hint(): string | null {
    return this.body.hint ?? null;
  }
}

const UNREACHABLE: ErrorBody = {
  code: "unreachable",
  message: "The server does not answer.",
  hint: "Start it again with “fleet web” in a terminal.",
};

export function unexpected(where: string, requestId: string | null): ApiError {
  return new ApiError(0, {
    code: "unexpected_data",
    message: `Unexpected data from the server (${where}).`,
    hint: requestId ? `Request ${requestId}` : "Reload the page; the server may be newer than this page.",
    request_id: requestId,
  });
}

export async function readError(response: Response): Promise<ApiError> {
  const fallback: ErrorBody = {
    code: `http_${response.status}`,
    message: `The server answered ${response.status}.`,
  };
  try {
    const body = (await response.json()) as { error?: ErrorBody };
    return new ApiError(response.status, body.error?.message ? body.error : fallback);
  } catch {
    return new ApiError(response.status, fallback);
  }
}

/** One request; `has` names the keys that the answer must have, so that a strange payload fails here and not in a view. */
export async function request<T>(
  path: string,
  init: RequestInit = {},
  has: (keyof T & string)[] = [],
): Promise<T> {
  let response: Response;
  try {
    response = await fetch(BASE + path, { credentials: "same-origin", ...init });
  } catch {
    throw new ApiError(0, UNREACHABLE);
  }
  if (!response.ok) throw await readError(response);
  if (response.status === 204) return undefined as T;
  const requestId = response.headers.get("x-request-id");
  let body: unknown;
  try {
    body = await response.json();
  } catch {
    throw unexpected(path, requestId);
  }
  if (typeof body !== "object" || body === null || has.some((key) => !(key in body))) {
    throw unexpected(path, requestId);
  }
  return body as T;
}

export function json(method: string, body: unknown): RequestInit {
  return { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

/** A failure in one line: what went wrong, then what to do. */
export function told(error: unknown): string {
  const { message, hint } = explain(error);
  return hint ? `${message}; ${hint}` : message;
}

export function explain(error: unknown): ErrorBody {
  if (error instanceof ApiError) return error.body;
  return { code: "page", message: error instanceof Error ? error.message : String(error) };
}
