// How a client in JavaScript tells what it played: as scenario.py does.
export const expect = (holds, what) => {
  if (!holds) throw new Error(String(JSON.stringify(what)).slice(0, 300));
};

export async function plays(scenarios) {
  for (const [scenario, play] of Object.entries(scenarios)) {
    try {
      await play();
      console.log(JSON.stringify({ scenario, ok: true }));
    } catch (error) {
      console.log(JSON.stringify({ scenario, ok: false, told: String(error.message ?? error).slice(0, 400) }));
    }
  }
}
