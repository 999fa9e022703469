import { redirect } from "next/navigation";
import { connection } from "next/server";

/** A new chat, whose address names it. */
export default async function Page() {
  await connection(); // for each visitor, not once when the app is built
  redirect(`/${crypto.randomUUID()}`);
}
