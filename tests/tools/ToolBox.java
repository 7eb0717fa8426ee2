import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command line tools one after another in one virtual machine: a line of base64 words comes in (the class and
 * its arguments), a line with the exit code and what the tool wrote, in base64, goes out.
 */
public class ToolBox {
    static class Ended extends RuntimeException {
        Ended() { super(null, null, false, false); }
    }

    /** How the running tool ended, and what it had said until then: some catch the exception that stands for its end. */
    static Integer code;
    static String said;
    static ByteArrayOutputStream told;

    static void end(int with) {
        if (code == null) {
            code = with;
            said = told.toString();
        }
        throw new Ended();
    }

    public static void main(String[] none) throws Exception {
        PrintStream answers = System.out;
        Exit.setExitProcedure((with, message) -> end(with));
        Exit.setHaltProcedure((with, message) -> end(with));
        BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
        for (String line; (line = orders.readLine()) != null; ) {
            String[] words = Arrays.stream(line.split(" ")).map(word -> new String(Base64.getDecoder().decode(word))).toArray(String[]::new);
            told = new ByteArrayOutputStream();
            code = null;
            PrintStream out = new PrintStream(told, true);
            System.setOut(out);
            System.setErr(out);
            try {
                Class.forName(words[0]).getMethod("main", String[].class).invoke(null, (Object) Arrays.copyOfRange(words, 1, words.length));
                end(0);
            } catch (Ended ended) {
                // it came to the end of its main
            } catch (java.lang.reflect.InvocationTargetException failed) {
                if (code == null) {
                    out.println("thrown: " + failed.getCause());
                    code = 1;
                    said = told.toString();
                }
            }
            answers.println(code + " " + Base64.getEncoder().encodeToString(said.getBytes(StandardCharsets.UTF_8)));
            answers.flush();
        }
    }
}
