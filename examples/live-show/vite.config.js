import { defineConfig } from 'vite';

export default defineConfig({
  // The packages of this repository are linked: all of them use this React.
  resolve: { dedupe: ['react', 'react-dom', '@liverank/client'] },
  server: { port: Number(process.env.PORT ?? 5173) },
});
