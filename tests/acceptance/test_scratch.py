from tests.acceptance.test_celery import *  # noqa
from tests.acceptance import test_celery as tc
for _n in [n for n in globals() if n.startswith("test_")]:
    del globals()[_n]

def test_sigquit(fleet, rows, scorer):
    apply(fleet, max_rows_per_claim=100)
    add_items(rows, 1000)
    worker = fleet.worker(concurrency=1)
    scorer.hold()
    result = send(fleet, "drain")
    assert scorer.entered.wait(10)
    os.kill(worker.pid, signal.SIGQUIT)
    import threading
    threading.Event().wait(2)
    print("alive", worker.alive)
    scorer.release()
    t=time.monotonic()
    try:
        eventually(lambda: not worker.alive, "end", 30)
    finally:
        print("SIGQUIT after release", time.monotonic()-t, states(rows))
        print(worker.output()[-3000:])

def test_never(fleet, rows, scorer):
    apply(fleet, max_rows_per_claim=100)
    add_items(rows, 1000)
    worker = fleet.worker(concurrency=1)
    scorer.hold()
    result = send(fleet, "drain")
    assert scorer.entered.wait(10)
    os.kill(worker.pid, signal.SIGTERM)
    t=time.monotonic()
    try:
        eventually(lambda: not worker.alive, "end", 60)
    finally:
        print("NEVER: ended after", time.monotonic()-t, states(rows), worker._popen.returncode)
        print(worker.output()[-3000:])

def test_html(fleet, rows, scorer):
    apply(fleet, max_rows_per_claim=10, max_run_time="2s", every="1h")
    add_items(rows, 100)
    port=free_port()
    flower = fleet.flower(port=port)
    w=fleet.worker()
    eventually(lambda: flower.get("workers?refresh=true"), "Flower to know the worker")
    scorer.delay = 0.3
    result = send(fleet, "drain")
    eventually(lambda: flower.task(result.id, "PROGRESS"), "progress")
    import httpx
    html=httpx.get(f"http://127.0.0.1:{port}/task/{result.id}").text
    print(re.sub(r"\s+"," ",re.sub("<[^>]+>"," ",html))[:1500])
    eventually(lambda: all_scored(rows, 100), "all rows scored")
    tasks=flower.get("tasks")
    for t in sorted(tasks.values(), key=lambda t:t["received"] or 0): print(t["name"],t["args"],t["state"],t["runtime"],t["result"], t["expires"], t["eta"])
    print(events(w,"Task"))
