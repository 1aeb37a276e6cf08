import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;

/** What a Java program needs of a cell: threads, collections of garbage, files, a child of itself. */
public class Work {
    public static void main(String[] words) throws Exception {
        if (words.length > 0 && words[0].equals("eat")) {
            List<byte[]> kept = new ArrayList<>();
            while (true) {
                byte[] more = new byte[1 << 20];
                Arrays.fill(more, (byte) 1);
                kept.add(more);
            }
        }
        if (words.length > 0 && words[0].equals("threads")) {
            for (int i = 0; i < 200; i++) {
                new Thread(() -> { try { Thread.sleep(1000); } catch (InterruptedException e) { } }).start();
            }
        }
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Integer>> answers = new ArrayList<>();
        for (int i = 0; i < 100; i++) {
            final int n = i;
            answers.add(pool.submit(() -> n * n));
        }
        int sum = 0;
        for (Future<Integer> answer : answers) sum += answer.get();
        pool.shutdown();
        for (int i = 0; i < 200; i++) { byte[] garbage = new byte[1 << 20]; garbage[i] = 1; }
        System.gc();
        Path file = Path.of("/workspace/x");
        Files.writeString(file, "text");
        System.out.println(sum + " " + Files.readString(file) + " " + String.join(",", words));
    }
}
