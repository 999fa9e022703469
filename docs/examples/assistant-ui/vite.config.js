import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// In development and in `vite preview` the service is at the page's own origin, as behind one proxy.
// From another origin: VITE_CHAT_URL, and the page's origin in CHAT_CORS_ORIGINS.
const proxy = {
  "/api/chat": {
    target: process.env.CHAT_URL ?? "http://localhost:8000",
    // This proxy holds a page's line when the service's breaks: the page would find out 45 s later.
    configure: (proxy) => proxy.on("proxyRes", (answer, _, page) => answer.on("close", () => answer.complete || page.destroy())),
  },
};

export default defineConfig({ plugins: [react()], server: { proxy }, preview: { proxy } });
