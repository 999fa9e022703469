// Ids that this page makes: sessions, messages, idempotency keys.
// crypto.randomUUID is missing on plain-http pages that are not localhost; getRandomValues is not.

const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";

export function newId(prefix) {
  const random = crypto.getRandomValues(new Uint8Array(20));
  return `${prefix}_${Array.from(random, (byte) => ALPHABET[byte & 31]).join("")}`;
}
